"""The folder that an audit writes: what each batch left, kept from the moment it is finished."""

from faithattn.audit.store.digests import digest_of_batch, digest_of_model
from faithattn.audit.store.folder import Store
from faithattn.audit.store.manifest import SCHEMA, Manifest
from faithattn.audit.store.merging import merge

__all__ = ["SCHEMA", "Manifest", "Store", "digest_of_batch", "digest_of_model", "merge"]
