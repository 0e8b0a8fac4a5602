//! The local side of an agent or a gateway: how programs on a host find services and get in.
//!
//! - [`names::NameTable`]: what a name or a virtual IP means; built from the imports, shared by all that follows.
//! - [`vip::VipListeners`]: TCP listeners on the virtual IPs, or one behind the redirect of `agent setup`.
//! - [`proxy`]: SOCKS5 and HTTP CONNECT on one port, for every name.
//! - [`dns`]: the zone `clusterset.local`; everything else goes to the resolvers of the host.
//! - [`setup`]: what `agent setup` changes on the host, and how it is taken back.
//!
//! What this crate deliberately does not know: where a connection goes. It hands over streams with the service and
//! the port that the caller meant; whoever drives it decides.

pub mod dns;
pub mod names;
pub mod proxy;
pub mod setup;
pub mod vip;
