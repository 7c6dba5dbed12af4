"""Every architecture that the library is held to, and the checks it is held by."""
