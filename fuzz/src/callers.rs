//! Callers on the same host, over real sockets of the loopback.

#[path = "../../local/tests/callers/mod.rs"]
mod of_local;

use of_local::{Server, call, questions, requests};
use std::cell::RefCell;
use tokio::runtime::Runtime;

thread_local! {
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts");
    static SERVER: RefCell<Server> = RefCell::new(RUNTIME.with(|runtime| runtime.block_on(Server::start())));
}

/// The first byte says in pieces of what size the rest is sent.
pub fn proxy(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(*size).max(1)).collect();
    drop(RUNTIME.with(|runtime| runtime.block_on(call(&pieces))));
}

pub fn proxy_seeds() -> Vec<Vec<u8>> {
    requests().into_iter().map(|request| [vec![255], request].concat()).collect()
}

pub fn dns(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    // See `Server::serves`.
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
    }
    SERVER.with_borrow_mut(|server| {
        RUNTIME.with(|runtime| {
            runtime.block_on(async {
                server.socket.send(&bytes).await.expect("sends");
                server.serves().await;
            })
        })
    });
}

pub fn dns_seeds() -> Vec<Vec<u8>> {
    questions()
}
