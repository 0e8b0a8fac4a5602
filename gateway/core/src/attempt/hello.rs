//! Recognises a TLS ClientHello, which may be sent to several endpoints as long as it offers no early data.

/// What the first bytes of a client are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hello {
    /// They may become a ClientHello.
    Incomplete,
    /// The first so many bytes are a whole ClientHello without early data.
    Whole(usize),
    /// Something else, or a ClientHello that announces early data, whose bytes must reach one endpoint only.
    Other,
}

/// TLS record content type `handshake` (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// Handshake type `client_hello` (section 4).
const CLIENT_HELLO: u8 = 1;
/// Extension `early_data` (section 4.2).
const EARLY_DATA: u16 = 42;
/// Longest record (section 5.1).
const RECORD_MAX: usize = 1 << 14;
/// A longer ClientHello is treated as something else; those in use have less than 2 KiB.
const HELLO_MAX: usize = 1 << 14;

/// Reads the first bytes of a client.
pub(super) fn read(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((record, after)) = next_record(rest) else {
            return if may_be_record(rest) { Hello::Incomplete } else { Hello::Other };
        };
        message.extend_from_slice(record);
        rest = after;
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) || message.len() > HELLO_MAX {
            return Hello::Other;
        }
        let Some([_, a, b, c]) = message.first_chunk::<4>() else { continue };
        let length = 4 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if length > HELLO_MAX || message.len() > length {
            // More in the same record than the ClientHello: no client does that.
            return Hello::Other;
        }
        if message.len() == length {
            let whole = offers_early_data(&message[4..]) == Some(false);
            return if whole { Hello::Whole(bytes.len() - rest.len()) } else { Hello::Other };
        }
    }
}

/// Content of the first handshake record, and what follows it.
fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [HANDSHAKE, 3, _, high, low] = bytes.first_chunk::<5>()? else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 || length > RECORD_MAX {
        return None;
    }
    bytes[5..].split_at_checked(length)
}

/// Whether more bytes could still make a handshake record of these.
fn may_be_record(bytes: &[u8]) -> bool {
    let length = match bytes {
        [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 1,
    };
    bytes.first().is_none_or(|kind| *kind == HANDSHAKE)
        && bytes.get(1).is_none_or(|major| *major == 3)
        && (1..=RECORD_MAX).contains(&length)
}

/// Whether the body of a ClientHello has the extension `early_data`; none when it is malformed.
fn offers_early_data(body: &[u8]) -> Option<bool> {
    let (_version_and_random, rest) = body.split_at_checked(34)?;
    let (_session, rest) = split_vector::<1>(rest)?;
    let (_suites, rest) = split_vector::<2>(rest)?;
    let (_compression, rest) = split_vector::<1>(rest)?;
    if rest.is_empty() {
        return Some(false);
    }
    let (mut extensions, rest) = split_vector::<2>(rest)?;
    if !rest.is_empty() {
        return None;
    }
    while !extensions.is_empty() {
        let kind = u16::from_be_bytes(*extensions.first_chunk::<2>()?);
        if kind == EARLY_DATA {
            return Some(true);
        }
        extensions = split_vector::<2>(&extensions[2..])?.1;
    }
    Some(false)
}

/// A vector with `N` length bytes, and what follows it.
fn split_vector<const N: usize>(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(N)?;
    let length = length.iter().fold(0usize, |all, byte| all << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello, cut into records of `record` bytes.
    pub(crate) fn client_hello(early_data: bool, record: usize) -> Vec<u8> {
        let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
        if early_data {
            extensions.extend([0, 42, 0, 0]);
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend([0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![CLIENT_HELLO];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend(body);
        let mut bytes = Vec::new();
        for part in message.chunks(record) {
            bytes.extend([HANDSHAKE, 3, 1]);
            bytes.extend((part.len() as u16).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn a_client_hello_is_recognised_when_it_is_whole_and_not_before() {
        for record in [1, 10, 16_000] {
            let bytes = client_hello(false, record);
            for length in 0..bytes.len() {
                assert_eq!(read(&bytes[..length]), Hello::Incomplete, "{length} of {record}");
            }
            assert_eq!(read(&bytes), Hello::Whole(bytes.len()));
        }
    }

    #[test]
    fn what_follows_a_client_hello_is_not_part_of_it() {
        let mut bytes = client_hello(false, 16_000);
        let length = bytes.len();
        bytes.extend(b"more");
        assert_eq!(read(&bytes), Hello::Whole(length));
    }

    #[test]
    fn early_data_is_not_safe() {
        assert_eq!(read(&client_hello(true, 16_000)), Hello::Other);
    }

    #[test]
    fn other_protocols_are_told_from_their_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x02",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
            b"\x17\x03\x03",
        ] {
            assert_eq!(read(bytes), Hello::Other, "{bytes:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_input_is_read_beyond_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200, value: u8) {
            let _ = read(&bytes);
            let mut hello = client_hello(false, 40);
            let at = at % hello.len();
            hello[at] = value;
            if let Hello::Whole(length) = read(&hello) {
                prop_assert!(length <= hello.len());
            }
        }
    }
}
