"""The sections of a report, one module each: SECTION says what it shows and in which place. See section.py."""
