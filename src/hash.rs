//! Pod-template and step hashes.
