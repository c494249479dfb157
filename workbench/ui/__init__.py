"""The Streamlit app: `app.py` is the entry script. No Streamlit is in `run_list`, `picture_files`, `headline_numbers`, `neuron_table`."""
