"""New study: a form made from the study model, the study file it writes, what that costs, and its start."""

import streamlit as st

from workbench.ui import new_study

PAGE = {
    "title": "New study",
    "icon": ":material/add_circle:",
    "why": "write a study, see what it costs, start it",
    "order": 80,
    "of_run": False,
}

st.title("New study")
new_study.begin()
left, right = st.columns([11, 9], gap="large")
with left:
    st.subheader("What is to be studied?", anchor=False)
    new_study.fields()
with right:
    st.subheader("The study file", anchor=False)
    study = new_study.text()
    if study is not None:
        st.subheader("What does it cost?", anchor=False)
        how = new_study.how()
        new_study.cost(study, how)
        st.subheader("Start it", anchor=False)
        new_study.start_button(study, how)
new_study.followed()
