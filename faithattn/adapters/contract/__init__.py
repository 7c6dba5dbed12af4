"""check_adapter() and the checks it makes."""
