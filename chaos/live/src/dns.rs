//! One A query over UDP: how a program on a host finds the virtual IP of a service.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks a server for the first address of a name.
///
/// # Errors
/// What was seen instead, in words.
pub async fn resolve(server: SocketAddr, name: &str) -> Result<Ipv4Addr, String> {
    let failed = |what: String| format!("DNS {server}, {name}: {what}");
    let ask = async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        socket.connect(server).await.map_err(|e| e.to_string())?;
        let id = std::process::id().to_be_bytes();
        let id = [id[2], id[3]];
        socket.send(&query(id, name)).await.map_err(|e| e.to_string())?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).await.map_err(|e| e.to_string())?;
        answer(id, &buffer[..length])
    };
    match tokio::time::timeout(TIMEOUT, ask).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed("no answer in 1 s".to_owned())),
    }
}

/// RFC 1035, section 4: one question, recursion desired.
fn query(id: [u8; 2], name: &str) -> Vec<u8> {
    let mut bytes = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        // Labels of our names have at most 63 characters (model::ids).
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

fn answer(id: [u8; 2], bytes: &[u8]) -> Result<Ipv4Addr, String> {
    let short = || "the answer is cut off".to_owned();
    let number = |at: usize| -> Result<usize, String> {
        let pair = bytes.get(at..at + 2).ok_or_else(short)?;
        Ok(usize::from(pair[0]) << 8 | usize::from(pair[1]))
    };
    if bytes.get(..2) != Some(&id[..]) {
        return Err("the answer is to another question".to_owned());
    }
    match number(2)? & 0x0f {
        0 => {}
        2 => return Err("SERVFAIL".to_owned()),
        3 => return Err("no such name".to_owned()),
        code => return Err(format!("error {code}")),
    }
    let answers = number(6)?;
    let mut at = skip_name(bytes, 12).ok_or_else(short)? + 4;
    for _ in 0..answers {
        at = skip_name(bytes, at).ok_or_else(short)?;
        let (kind, length) = (number(at)?, number(at + 8)?);
        let data = bytes.get(at + 10..at + 10 + length).ok_or_else(short)?;
        if let (1, &[a, b, c, d]) = (kind, data) {
            return Ok(Ipv4Addr::new(a, b, c, d));
        }
        at += 10 + length;
    }
    Err("no address".to_owned())
}

fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = query([1, 2], "cart.shop");
        bytes[2] = 0x81;
        bytes[3] = code;
        bytes[7] = u8::try_from(records.len()).expect("few");
        for record in records {
            bytes.extend_from_slice(record);
        }
        bytes
    }

    #[test]
    fn the_first_address_is_found() {
        let cname: &[u8] = &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12];
        let a: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 64, 0, 7];
        assert_eq!(answer([1, 2], &reply(0, &[cname, a])), Ok(Ipv4Addr::new(127, 64, 0, 7)));
    }

    #[test]
    fn anything_else_is_told_in_words() {
        assert_eq!(answer([1, 2], &reply(2, &[])), Err("SERVFAIL".into()));
        assert_eq!(answer([1, 2], &reply(3, &[])), Err("no such name".into()));
        assert_eq!(answer([1, 2], &reply(0, &[])), Err("no address".into()));
        assert_eq!(answer([9, 9], &reply(0, &[])), Err("the answer is to another question".into()));
        let whole = reply(0, &[&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 64, 0, 7]]);
        for length in 2..whole.len() {
            assert!(answer([1, 2], &whole[..length]).is_err());
        }
    }
}
