//! The one binary, `meshfed`.

fn main() {}
