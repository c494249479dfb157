"""What a study file may say, and the prompt sets it names."""
