//! The decisions against a slow, obviously right account of the same rules, written apart from them.

#[path = "oracle/decisions.rs"]
mod decisions;
#[path = "oracle/priority_load.rs"]
mod priority_load;
#[path = "oracle/remembered.rs"]
mod remembered;
#[path = "oracle/slow.rs"]
mod slow;
#[path = "oracle/stories.rs"]
mod stories;
#[path = "oracle/world.rs"]
mod world;
