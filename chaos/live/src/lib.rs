//! Runs a planned topology as real processes on loopback, without root, and ends every one of them.
//!
//! Start with [`mesh::Mesh::start`]. Everything is done with the `meshfed` program itself, by the commands that a
//! person would type, so what runs here is what runs elsewhere. The links are relays of `chaos/link` within this
//! process; the loads are those of `bench`.
//!
//! No process outlives the [`mesh::Mesh`] that started it: they are ended when it is dropped, and those of meshfed
//! end by themselves when this process is killed, because their standard input closes.

pub mod command;
pub mod control;
pub mod dns;
pub mod inject;
pub mod mesh;
pub mod open_files;
pub mod place;
pub mod process;
pub mod ready;
pub mod relays;
pub mod shapes;
