"""The Streamlit app: `app.py` is its entry script. No Streamlit is in navigation, run_list, picture_files, region_files, headline_numbers,
neuron_table, neuron_activity, report_files and compared_runs."""
