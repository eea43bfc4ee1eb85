//! Where messages of PostgreSQL's protocol begin and end.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use super::fault::Direction;

/// The two sides of one connection, as far as they have been read.
#[derive(Debug)]
pub(super) struct Dialogue {
    client: Side,
    server: Side,
    /// Requests for encryption that the server has not answered: its answer is one byte.
    unanswered: u32,
    /// Nothing more can be told: it is encrypted, or no PostgreSQL.
    is_opaque: bool,
}

#[derive(Debug, Default)]
struct Side {
    /// Whether the client has said what session it wants; before that messages have no type.
    in_session: bool,
    /// The beginning of a message that has not been understood yet.
    head: [u8; HEAD],
    have: usize,
    /// What is left of the message whose head was read.
    message: Option<Message>,
}

#[derive(Debug)]
struct Message {
    name: &'static str,
    left: usize,
}

/// A client's first message: its length, and a code where others have their content.
const HEAD: usize = 8;

/// A part of what came: to the end of a message at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: usize,
    /// The message that ends with it.
    pub(super) ended: Option<&'static str>,
}

impl Dialogue {
    pub(super) fn new() -> Self {
        Self {
            client: Side::default(),
            server: Side {
                in_session: true,
                ..Side::default()
            },
            unanswered: 0,
            is_opaque: false,
        }
    }

    /// Reads on, to the end of a message or of the bytes, of which there are some.
    pub(super) fn read(&mut self, direction: Direction, bytes: &[u8]) -> Part {
        if self.is_opaque {
            return Part {
                bytes: bytes.len(),
                ended: None,
            };
        }
        if direction == Direction::ToClient && self.unanswered > 0 && self.server.is_between() {
            // A server too old to know the request answers by an error, which is a message.
            if bytes[0] != b'E' {
                self.unanswered -= 1;
                self.is_opaque = bytes[0] != b'N';
                return Part {
                    bytes: 1,
                    ended: Some(ENCRYPTION_RESPONSE),
                };
            }
            self.unanswered = 0;
        }
        let side = match direction {
            Direction::ToServer => &mut self.client,
            Direction::ToClient => &mut self.server,
        };
        let mut at = 0;
        let message = loop {
            if let Some(message) = &mut side.message {
                break message;
            }
            let Some(byte) = bytes.get(at) else {
                return Part {
                    bytes: at,
                    ended: None,
                };
            };
            side.head[side.have] = *byte;
            side.have += 1;
            at += 1;
            match side.understood(direction) {
                Understood::NotYet => {}
                Understood::Message(message) => side.message = Some(message),
                Understood::Never => {
                    self.is_opaque = true;
                    return Part {
                        bytes: bytes.len(),
                        ended: None,
                    };
                }
            }
        };
        let body = message.left.min(bytes.len() - at);
        message.left -= body;
        let mut ended = None;
        if message.left == 0 {
            let name = message.name;
            side.have = 0;
            side.message = None;
            match name {
                STARTUP => side.in_session = true,
                SSL | GSS => self.unanswered += 1,
                _ => {}
            }
            ended = Some(name);
        }
        Part {
            bytes: at + body,
            ended,
        }
    }
}

enum Understood {
    NotYet,
    Message(Message),
    Never,
}

impl Side {
    fn is_between(&self) -> bool {
        self.have == 0
    }

    /// What is known of a message from its beginning.
    fn understood(&self, direction: Direction) -> Understood {
        let number = |at: usize| {
            let four = [0, 1, 2, 3].map(|n| self.head[at + n]);
            u32::from_be_bytes(four)
        };
        if !self.in_session {
            if self.have < HEAD {
                return Understood::NotYet;
            }
            // PostgreSQL takes no more than 10,000 bytes here.
            let length @ 8..=10_000 = number(0) else {
                return Understood::Never;
            };
            let name = match number(4) {
                80_877_102 => "CancelRequest",
                80_877_103 => SSL,
                80_877_104 => GSS,
                version if version >> 16 == 3 => STARTUP,
                _ => return Understood::Never,
            };
            return Understood::Message(Message {
                name,
                left: length as usize - HEAD,
            });
        }
        if self.have < 5 {
            return Understood::NotYet;
        }
        let (Some(name), length @ 4..) = (name_of(direction, self.head[0]), number(1)) else {
            return Understood::Never;
        };
        Understood::Message(Message {
            name,
            left: length as usize - 4,
        })
    }
}

const STARTUP: &str = "StartupMessage";
const SSL: &str = "SSLRequest";
const GSS: &str = "GSSENCRequest";
const ENCRYPTION_RESPONSE: &str = "EncryptionResponse";
pub(super) const TERMINATE: &str = "Terminate";

type Names = [(u8, &'static str)];

const OF_CLIENT: &Names = &[
    (b'B', "Bind"),
    (b'C', "Close"),
    (b'd', "CopyData"),
    (b'c', "CopyDone"),
    (b'f', "CopyFail"),
    (b'D', "Describe"),
    (b'E', "Execute"),
    (b'H', "Flush"),
    (b'F', "FunctionCall"),
    (b'P', "Parse"),
    // Also for all else that answers a question for credentials.
    (b'p', "PasswordMessage"),
    (b'Q', "Query"),
    (b'S', "Sync"),
    (b'X', TERMINATE),
];

const OF_SERVER: &Names = &[
    (b'R', "Authentication"),
    (b'K', "BackendKeyData"),
    (b'2', "BindComplete"),
    (b'3', "CloseComplete"),
    (b'C', "CommandComplete"),
    (b'W', "CopyBothResponse"),
    (b'd', "CopyData"),
    (b'c', "CopyDone"),
    (b'G', "CopyInResponse"),
    (b'H', "CopyOutResponse"),
    (b'D', "DataRow"),
    (b'I', "EmptyQueryResponse"),
    (b'E', "ErrorResponse"),
    (b'V', "FunctionCallResponse"),
    (b'v', "NegotiateProtocolVersion"),
    (b'n', "NoData"),
    (b'N', "NoticeResponse"),
    (b'A', "NotificationResponse"),
    (b't', "ParameterDescription"),
    (b'S', "ParameterStatus"),
    (b'1', "ParseComplete"),
    (b's', "PortalSuspended"),
    (b'Z', "ReadyForQuery"),
    (b'T', "RowDescription"),
];

fn names(direction: Direction) -> &'static Names {
    match direction {
        Direction::ToServer => OF_CLIENT,
        Direction::ToClient => OF_SERVER,
    }
}

fn name_of(direction: Direction, tag: u8) -> Option<&'static str> {
    let mut names = names(direction).iter();
    names.find_map(|(known, name)| (*known == tag).then_some(*name))
}

/// Whether there is a message of this name.
pub(super) fn is_name(direction: Direction, name: &str) -> bool {
    let untagged: &[&str] = match direction {
        Direction::ToServer => &[STARTUP, SSL, GSS, "CancelRequest"],
        Direction::ToClient => &[ENCRYPTION_RESPONSE],
    };
    untagged.contains(&name) || names(direction).iter().any(|(_, known)| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the messages in `bytes`, which come in pieces of this size, and how many bytes
    /// are left over behind the last.
    fn messages(
        dialogue: &mut Dialogue,
        direction: Direction,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<&'static str>, usize) {
        let (mut seen, mut over) = (Vec::new(), 0);
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                let part = dialogue.read(direction, piece);
                assert!((1..=piece.len()).contains(&part.bytes));
                piece = &piece[part.bytes..];
                over += part.bytes;
                if let Some(name) = part.ended {
                    seen.push(name);
                    over = 0;
                }
            }
        }
        (seen, over)
    }

    fn untagged(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = 8 + rest.len() as u32;
        [&length.to_be_bytes(), &code.to_be_bytes(), rest].concat()
    }

    fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = 4 + body.len() as u32;
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn messages_are_told_apart_however_they_come() {
        let client = [
            untagged(3 << 16, b"user\0app\0\0"),
            tagged(b'p', b"secret\0"),
            tagged(b'P', b"\0SELECT 1\0\0\0"),
            tagged(b'S', b""),
            tagged(b'd', &[b'X'; 300]),
            tagged(b'X', b""),
        ]
        .concat();
        let server = [
            tagged(b'R', &[0; 4]),
            tagged(b'S', b"a\0b\0"),
            tagged(b'Z', b"I"),
            tagged(b'D', &[b'Z'; 300]),
            b"Z\0\0".to_vec(),
        ]
        .concat();
        for piece in 1..=client.len() {
            let mut dialogue = Dialogue::new();
            let (seen, over) = messages(&mut dialogue, Direction::ToServer, &client, piece);
            assert_eq!(
                (seen.as_slice(), over),
                (
                    &[
                        STARTUP,
                        "PasswordMessage",
                        "Parse",
                        "Sync",
                        "CopyData",
                        TERMINATE
                    ][..],
                    0
                ),
                "in pieces of {piece}"
            );
            let (seen, over) = messages(&mut dialogue, Direction::ToClient, &server, piece);
            let expected = [
                "Authentication",
                "ParameterStatus",
                "ReadyForQuery",
                "DataRow",
            ];
            assert_eq!((seen.as_slice(), over), (&expected[..], 3), "{piece}");
        }
    }

    #[test]
    fn refused_encryption_is_followed_by_a_session() {
        for piece in [1, 3, 100] {
            let mut dialogue = Dialogue::new();
            let both = [
                (Direction::ToServer, untagged(80_877_104, b""), GSS),
                (Direction::ToClient, b"N".to_vec(), ENCRYPTION_RESPONSE),
                (Direction::ToServer, untagged(80_877_103, b""), SSL),
                (Direction::ToClient, b"N".to_vec(), ENCRYPTION_RESPONSE),
                (Direction::ToServer, untagged(3 << 16, b"\0"), STARTUP),
                (Direction::ToClient, tagged(b'N', b"\0"), "NoticeResponse"),
            ];
            for (direction, bytes, name) in both {
                let seen = messages(&mut dialogue, direction, &bytes, piece);
                assert_eq!(seen, (vec![name], 0));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_guessed_at() {
        // Encrypted from here on: what looks like a message is none.
        let mut dialogue = Dialogue::new();
        messages(
            &mut dialogue,
            Direction::ToServer,
            &untagged(80_877_103, b""),
            100,
        );
        messages(&mut dialogue, Direction::ToClient, b"S", 1);
        for direction in [Direction::ToServer, Direction::ToClient] {
            let bytes = tagged(b'S', b"");
            assert_eq!(
                messages(&mut dialogue, direction, &bytes, 100),
                (vec![], bytes.len())
            );
        }
        // Another protocol.
        let mut dialogue = Dialogue::new();
        let ping = b"*1\r\n$4\r\nPING\r\n";
        let (seen, _) = messages(&mut dialogue, Direction::ToServer, ping, 3);
        assert!(seen.is_empty() && dialogue.is_opaque);
        // A message that the protocol does not have.
        let mut dialogue = Dialogue::new();
        let unheard_of = tagged(b'?', b"");
        let (seen, _) = messages(&mut dialogue, Direction::ToClient, &unheard_of, 100);
        assert!(seen.is_empty() && dialogue.is_opaque);
    }

    #[test]
    fn names_are_known() {
        assert!(is_name(Direction::ToServer, "Parse") && is_name(Direction::ToServer, STARTUP));
        assert!(!is_name(Direction::ToClient, "Parse"));
        assert!(is_name(Direction::ToClient, ENCRYPTION_RESPONSE));
    }
}
