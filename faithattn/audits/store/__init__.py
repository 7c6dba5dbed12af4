"""The folder that an audit writes: what each batch left, kept from the moment it is finished."""

from faithattn.audits.store.digests import digest_of_batch, digest_of_model
from faithattn.audits.store.folder import Store
from faithattn.audits.store.manifest import SCHEMA, Manifest
from faithattn.audits.store.merging import merge

__all__ = ["SCHEMA", "Manifest", "Store", "digest_of_batch", "digest_of_model", "merge"]
