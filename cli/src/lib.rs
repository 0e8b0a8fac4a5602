//! The one binary, `meshfed`.
