//! How messages of gRPC are read: by `prost`, once it is known that they do not make much of little.
//!
//! An empty element of a list takes two bytes on the wire and some hundred in memory, so a message of the size that a
//! server takes could fill the memory of its host before [`convert`](crate::convert) has seen the first element; with
//! compression a few kilobytes would do. So the elements are counted first, in the bytes as they stand.

use crate::convert::limits::ENTRIES_MAX;
use bytes::Buf;
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Most fields of the outermost message and of those within it: as many elements as any list of ours takes, and what
/// stands beside them.
pub const FIELDS_MAX: usize = ENTRIES_MAX + 1_000;

/// A message has more elements than any that would be taken. The peer that sent it is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {bytes} bytes has more than {FIELDS_MAX} elements")]
pub struct TooManyElements {
    /// Its size.
    pub bytes: usize,
}

/// Reads and writes the messages of our services.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Reads one message.
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Splits off what is there, and copies nothing.
        let body = source.copy_to_bytes(source.remaining());
        check(&body).map_err(|error| Status::invalid_argument(error.to_string()))?;
        U::decode(body).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Counts the fields of a message and of the messages within it. What is no message is not counted: `prost` will say
/// what is wrong with it.
///
/// # Errors
/// There are more than [`FIELDS_MAX`].
pub fn check(message: &[u8]) -> Result<(), TooManyElements> {
    let mut left = FIELDS_MAX;
    let mut count = || {
        left = left.checked_sub(1)?;
        Some(())
    };
    let counted = each_field(message, |content| {
        count()?;
        // A text or bytes may look like a message for a while; that counts little.
        content.map_or(Some(()), |content| each_field(content, |_| count()))
    });
    counted.ok_or(TooManyElements { bytes: message.len() })
}

/// Calls `field` for each field with its content, if it has one of a length, until the bytes are no message any more.
/// None: a call gave none.
fn each_field<'m>(mut bytes: &'m [u8], mut field: impl FnMut(Option<&'m [u8]>) -> Option<()>) -> Option<()> {
    while let Some((content, rest)) = next_field(bytes) {
        field(content)?;
        bytes = rest;
    }
    Some(())
}

/// The first field: its content, and what follows. None: the bytes are at their end, or no field begins here.
fn next_field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    const VARINT: u64 = 0;
    const FIXED_64: u64 = 1;
    const LENGTH: u64 = 2;
    const FIXED_32: u64 = 5;
    let (key, rest) = varint(bytes)?;
    match key & 7 {
        VARINT => Some((None, varint(rest)?.1)),
        FIXED_64 => Some((None, rest.get(8..)?)),
        LENGTH => {
            let (length, rest) = varint(rest)?;
            let (content, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(content), rest))
        }
        FIXED_32 => Some((None, rest.get(4..)?)),
        // Groups, which nothing of ours has.
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}
