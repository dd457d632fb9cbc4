//! A reading of requests by httparse, as plain as possible, of bytes that the guard has accepted.

/// A request as one of the parsers saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub fields: usize,
    pub body: Vec<u8>,
    pub trailers: usize,
    pub complete: bool,
    /// The connection ends after the answer.
    pub closes: bool,
}

impl Message {
    pub fn is_like(&self, other: &Self) -> bool {
        let fields = |message: &Self| (message.fields, message.trailers, message.complete);
        self.method == other.method && self.body == other.body && fields(self) == fields(other)
    }
}

/// The messages whose heads are whole, and where those that are whole end.
pub(super) fn read(bytes: &[u8]) -> (Vec<Message>, Vec<usize>) {
    let mut messages = Vec::new();
    let mut ends = Vec::new();
    let mut rest = bytes;
    while let Some(message) = read_message(&mut rest) {
        let complete = message.complete;
        messages.push(message);
        if !complete {
            break;
        }
        ends.push(bytes.len() - rest.len());
    }
    (messages, ends)
}

fn read_message(rest: &mut &[u8]) -> Option<Message> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(rest).expect("httparse reads what the guard accepts");
    let httparse::Status::Complete(head) = status else { return None };
    *rest = &rest[head..];
    let value = |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let mut message = Message {
        method: request.method.expect("a whole head has a method").to_owned(),
        fields: request.headers.len(),
        closes: closes(&request),
        ..Message::default()
    };
    if value("transfer-encoding").is_some() {
        message.complete = read_chunks(rest, &mut message).is_some();
    } else {
        let length = value("content-length").map_or(Some(0), |field| {
            std::str::from_utf8(field.value).ok().and_then(|digits| digits.parse::<u64>().ok())
        });
        let length = length.expect("the guard accepts only numbers");
        let here = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
        message.body = rest[..here].to_vec();
        message.complete = here as u64 == length;
        *rest = &rest[here..];
    }
    Some(message)
}

/// `None` if the bytes end first.
fn read_chunks(rest: &mut &[u8], message: &mut Message) -> Option<()> {
    loop {
        let status = httparse::parse_chunk_size(rest).expect("httparse reads what the guard accepts");
        let httparse::Status::Complete((line, size)) = status else { return None };
        *rest = &rest[line..];
        if size == 0 {
            break;
        }
        let here = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        message.body.extend_from_slice(&rest[..here]);
        *rest = rest.get(here..).filter(|_| here as u64 == size)?;
        let end;
        (end, *rest) = rest.split_first_chunk::<2>()?;
        assert_eq!(end, b"\r\n", "after a chunk");
    }
    let mut trailers = [httparse::EMPTY_HEADER; 50];
    let status = httparse::parse_headers(rest, &mut trailers).expect("httparse reads what the guard accepts");
    let httparse::Status::Complete((length, trailers)) = status else { return None };
    message.trailers = trailers.len();
    *rest = &rest[length..];
    Some(())
}

/// As hyper decides it.
fn closes(request: &httparse::Request<'_, '_>) -> bool {
    let mut keep_alive = request.version == Some(1);
    for field in request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("connection")) {
        let text = field.value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        let has = |word: &str| {
            let value = String::from_utf8_lossy(field.value);
            text && value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word))
        };
        if has("close") {
            return true;
        }
        keep_alive |= has("keep-alive");
    }
    !keep_alive
}
