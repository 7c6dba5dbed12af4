"""Every metric as one number an instance, so that all of them can be put to one question."""
