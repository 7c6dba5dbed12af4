"""What the tests return: per-instance values that know how to sum themselves up."""
