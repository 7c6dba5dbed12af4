"""What is changed: the attention, or the inputs."""
