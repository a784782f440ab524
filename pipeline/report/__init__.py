"""One HTML file that says what a run, a cross-validation, an evaluation or a prediction found."""
