//! The numbers that a closed connection and a reset stream carry, so that the other side knows why.

use quinn::VarInt;
use std::fmt;

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$item:meta])* $variant:ident = $number:literal, $words:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$item])* $variant,)*
            /// A number that this version does not know.
            Unknown(u64),
        }

        impl $name {
            /// All that this version knows.
            pub const KNOWN: &[Self] = &[$(Self::$variant),*];

            /// In words; one for all that this version does not know.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                    Self::Unknown(_) => "unknown",
                }
            }

            pub(crate) fn number(self) -> VarInt {
                match self {
                    $(Self::$variant => VarInt::from_u32($number),)*
                    Self::Unknown(number) => VarInt::from_u64(number).unwrap_or(VarInt::MAX),
                }
            }

            pub(crate) fn from_number(number: VarInt) -> Self {
                match number.into_inner() {
                    $($number => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Unknown(number) => f.pad(&format!("unknown code {number}")),
                    known => f.pad(known.word()),
                }
            }
        }
    };
}

codes! {
    /// Why a connection was closed.
    CloseCode {
        /// Nobody uses it any more, or its process ends.
        Done = 0, "done";
        /// Its process has drained and leaves.
        Drained = 1, "drained";
        /// The other connection between the same two gateways stays.
        Duplicate = 2, "duplicate of another connection";
        /// The peer is not, or no longer, welcome here: unlinked, or of a role that has no business here.
        Unwelcome = 3, "peer is not welcome";
        /// The peer broke the protocol.
        Protocol = 4, "protocol broken";
        /// A limit was reached.
        Overloaded = 5, "overloaded";
        /// Probes were not answered; another connection takes its place.
        Silent = 6, "probes unanswered";
        /// No link is being made, so strangers have nothing to say here.
        LinkClosed = 7, "no link is being made";
    }
}

codes! {
    /// Why one direction of a stream was given up.
    StreamCode {
        /// Its user dropped it. The transport says the same when it drops the reading side.
        Dropped = 0, "dropped";
        /// The TCP connection at the other end was reset.
        TcpReset = 0x11, "connection reset";
        /// The stream was refused; the answer says why.
        Refused = 0x12, "refused";
        /// The client went away, or another candidate is tried.
        Cancelled = 0x13, "cancelled";
        /// A connection further along the way was lost.
        PathLost = 0x14, "path lost";
        /// Its opener broke the protocol.
        Protocol = 0x15, "protocol broken";
        /// Its reader took next to nothing, and what it left unread was needed for others.
        SlowReader = 0x16, "slow reader";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_survives_the_wire() {
        for code in [
            CloseCode::Done,
            CloseCode::Drained,
            CloseCode::Duplicate,
            CloseCode::Unwelcome,
            CloseCode::Protocol,
            CloseCode::Overloaded,
            CloseCode::Silent,
            CloseCode::LinkClosed,
            CloseCode::Unknown(4_711),
        ] {
            assert_eq!(CloseCode::from_number(code.number()), code);
        }
        assert_eq!(StreamCode::from_number(StreamCode::TcpReset.number()), StreamCode::TcpReset);
        assert_eq!(StreamCode::Unknown(9).to_string(), "unknown code 9");
    }
}
