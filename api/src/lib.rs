//! The resources that people write, and the answers of the REST API.
