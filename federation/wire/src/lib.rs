//! Protobuf messages, generated code, and `convert`, where protobuf meets the model.
