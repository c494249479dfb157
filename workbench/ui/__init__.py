"""The Streamlit app: `app.py` is its entry script. No Streamlit is in navigation, run_list, picture_files, region_files, headline_numbers,
neuron_table, neuron_activity, neuron_files, neuron_profiles, attribution_files, attribution_rows, cluster_files, layer_names, lists,
pick, lab_state, report_files and compared_runs."""
