//! The frames that a client of the index service and its server exchange over TCP. Both ends encode and decode here.
//!
//! Every request has the same length and so has every reply, so no frame needs to say how long it is. A client may send
//! as many requests as it likes before it reads; the replies of one connection come in the order of its requests.
//! Numbers are little-endian.

use super::mixed;

/// What the index keeps for a key.
pub type Value = [u8; 16];

/// The length of a request: what to do (1 byte), its number (8), the key (8) and the value (16).
pub const REQUEST_BYTES: usize = 33;
/// The length of a reply: the number of the request (8 bytes), the status (1) and a value (16).
pub const REPLY_BYTES: usize = 25;

/// The value that belongs to `key` in every index, so that every reply can be checked from the key alone.
pub fn value_of(key: u64) -> Value {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&mixed([!key]).to_le_bytes());
    value[8..].copy_from_slice(&(!key).to_le_bytes());
    value
}

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The value of the key.
    Get,
    /// The value of the request is to be kept for the key from now on.
    Put,
    /// The number of entries; key and value say nothing.
    Len,
}

impl Op {
    const fn code(self) -> u8 {
        match self {
            Self::Get => 1,
            Self::Put => 2,
            Self::Len => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Get),
            2 => Some(Self::Put),
            3 => Some(Self::Len),
            _ => None,
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub op: Op,
    /// The number that the reply repeats.
    pub id: u64,
    /// The key.
    pub key: u64,
    /// The value of a put.
    pub value: Value,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The key had an entry: the reply has its value, for a put the one that was replaced. Also a length was told so.
    Found,
    /// The key had no entry; since a put it has one.
    Absent,
    /// The request asks for something unknown. The first byte of the value repeats the code, and the server closes the
    /// connection: the frames that follow cannot be trusted.
    UnknownOp,
}

impl Status {
    const fn code(self) -> u8 {
        match self {
            Self::Found => 0,
            Self::Absent => 1,
            Self::UnknownOp => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Found),
            1 => Some(Self::Absent),
            2 => Some(Self::UnknownOp),
            _ => None,
        }
    }
}

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the request.
    pub id: u64,
    /// How it went.
    pub status: Status,
    /// The value that belongs to the status, or zeros.
    pub value: Value,
}

/// A request that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("request {id} has the unknown operation {code}; known are 1 (get), 2 (put) and 3 (len)")]
pub struct BadRequest {
    /// The number of the request.
    pub id: u64,
    /// What stood where the operation should be.
    pub code: u8,
}

/// A reply that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the reply to request {id} has the unknown status {code}; known are 0 (found), 1 (absent) and 2 (unknown operation)"
)]
pub struct BadReply {
    /// The number of the request.
    pub id: u64,
    /// What stood where the status should be.
    pub code: u8,
}

impl Request {
    /// The request as it is sent.
    pub fn encode(&self) -> [u8; REQUEST_BYTES] {
        let mut frame = [0; REQUEST_BYTES];
        frame[0] = self.op.code();
        frame[1..9].copy_from_slice(&self.id.to_le_bytes());
        frame[9..17].copy_from_slice(&self.key.to_le_bytes());
        frame[17..].copy_from_slice(&self.value);
        frame
    }

    /// The request that was sent.
    pub fn decode(frame: &[u8; REQUEST_BYTES]) -> Result<Self, BadRequest> {
        let id = number(frame, 1);
        let op = Op::from_code(frame[0]).ok_or(BadRequest { id, code: frame[0] })?;
        Ok(Self { op, id, key: number(frame, 9), value: value(frame, 17) })
    }
}

impl Reply {
    /// The reply to a request that cannot be understood.
    pub fn refusing(bad: BadRequest) -> Self {
        let mut value = [0; 16];
        value[0] = bad.code;
        Self { id: bad.id, status: Status::UnknownOp, value }
    }

    /// The reply that tells a number of entries.
    pub fn with_length(id: u64, length: u64) -> Self {
        let mut value = [0; 16];
        value[..8].copy_from_slice(&length.to_le_bytes());
        Self { id, status: Status::Found, value }
    }

    /// The number of entries in a reply to [`Op::Len`].
    pub fn length(&self) -> u64 {
        number(&self.value, 0)
    }

    /// The reply as it is sent.
    pub fn encode(&self) -> [u8; REPLY_BYTES] {
        let mut frame = [0; REPLY_BYTES];
        frame[..8].copy_from_slice(&self.id.to_le_bytes());
        frame[8] = self.status.code();
        frame[9..].copy_from_slice(&self.value);
        frame
    }

    /// The reply that was sent.
    pub fn decode(frame: &[u8; REPLY_BYTES]) -> Result<Self, BadReply> {
        let id = number(frame, 0);
        let status = Status::from_code(frame[8]).ok_or(BadReply { id, code: frame[8] })?;
        Ok(Self { id, status, value: value(frame, 9) })
    }
}

/// The number that begins at byte `first`.
fn number(bytes: &[u8], first: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[first..first + 8]);
    u64::from_le_bytes(number)
}

/// The value that begins at byte `first`.
fn value(bytes: &[u8], first: usize) -> Value {
    let mut value = [0; 16];
    value.copy_from_slice(&bytes[first..first + 16]);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_arrive_as_they_were_sent(code in 1_u8..=3, id: u64, key: u64, value: Value) {
            let request = Request { op: Op::from_code(code).unwrap(), id, key, value };
            prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        }

        #[test]
        fn replies_arrive_as_they_were_sent(code in 0_u8..=2, id: u64, value: Value) {
            let reply = Reply { id, status: Status::from_code(code).unwrap(), value };
            prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }

        #[test]
        fn any_frame_is_a_request_or_refused_with_its_number(code: u8, id: u64) {
            let mut frame = Request { op: Op::Get, id, key: 0, value: [0; 16] }.encode();
            frame[0] = code;
            match Request::decode(&frame) {
                Ok(request) => prop_assert!((1..=3).contains(&code) && request.op.code() == code),
                Err(bad) => prop_assert_eq!((bad.id, bad.code, (1..=3).contains(&code)), (id, code, false)),
            }
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let frame = Request { op: Op::Put, id: 0x0102, key: 0x0304, value: [9; 16] }.encode();
        assert_eq!((frame[0], &frame[1..3], &frame[9..11], frame[32]), (2, &[2, 1][..], &[4, 3][..], 9));
        let frame = Reply { id: 0x0506, status: Status::Absent, value: [7; 16] }.encode();
        assert_eq!((&frame[..2], frame[8], frame[24]), (&[6, 5][..], 1, 7));
    }

    #[test]
    fn what_is_unknown_is_named() {
        let bad = BadRequest { id: 5, code: 77 };
        assert!(bad.to_string().contains("request 5 has the unknown operation 77"), "{bad}");
        let refusal = Reply::refusing(bad);
        assert_eq!((refusal.id, refusal.status, refusal.value[0]), (5, Status::UnknownOp, 77));
        let mut frame = refusal.encode();
        frame[8] = 3;
        assert_eq!(Reply::decode(&frame), Err(BadReply { id: 5, code: 3 }));
    }

    #[test]
    fn a_length_fits_a_reply() {
        assert_eq!(Reply::with_length(1, 58_720_257).length(), 58_720_257);
    }

    #[test]
    fn values_differ_between_keys() {
        assert_eq!(value_of(1), value_of(1));
        assert_ne!(value_of(1), value_of(2));
    }
}
