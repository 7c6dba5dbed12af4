"""How far attention can move at almost the same output: a proven bound beside what was found."""
