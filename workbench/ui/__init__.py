"""The Streamlit app: `app.py` is the entry script; what needs no Streamlit is in `_runs`, `_pictures`, `_numbers` and `_neurons`."""
