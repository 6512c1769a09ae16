//! Why a request cannot be read. The connection closes after any of these.

use std::fmt;

/// What was wrong with the bytes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HttpError {
    /// The request line is not `method SP target SP HTTP/1.x`.
    RequestLine,
    /// The request target has illegal characters or a form we do not serve.
    Target,
    /// No line end within the head limit: the target is too long.
    TargetTooLong,
    /// An HTTP version other than 1.0 and 1.1.
    Version,
    /// CONNECT: this is no proxy.
    Connect,
    /// A line feed without carriage return, or the reverse.
    BareNewline,
    /// A field name that is no token, or whitespace before its colon.
    FieldName,
    /// A control character in a field value.
    FieldValue,
    /// A field continued on the next line.
    ObsoleteFold,
    /// The head is longer than the limit.
    HeadTooLarge,
    /// More fields than the limit.
    TooManyFields,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that is no host.
    HostInvalid,
    /// A `Content-Length` that is no plain decimal number.
    LengthInvalid,
    /// More than one `Content-Length`.
    LengthRepeated,
    /// `Content-Length` next to `Transfer-Encoding`.
    LengthAndTransferEncoding,
    /// A transfer coding other than exactly `chunked`.
    TransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    TransferEncodingIn10,
    /// The body is longer than the limit.
    BodyTooLarge,
    /// Chunked framing is broken.
    Chunk,
    /// Chunk extensions are longer than the limit.
    ChunkExtensionsTooLarge,
    /// A trailer field is malformed.
    Trailer,
    /// Trailer fields are longer than the limit.
    TrailersTooLarge,
    /// `Expect` asks for something other than `100-continue`.
    Expectation,
}

impl HttpError {
    /// Every error, for tables of counters.
    pub const ALL: [HttpError; 25] = [
        Self::RequestLine,
        Self::Target,
        Self::TargetTooLong,
        Self::Version,
        Self::Connect,
        Self::BareNewline,
        Self::FieldName,
        Self::FieldValue,
        Self::ObsoleteFold,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostInvalid,
        Self::LengthInvalid,
        Self::LengthRepeated,
        Self::LengthAndTransferEncoding,
        Self::TransferEncoding,
        Self::TransferEncodingIn10,
        Self::BodyTooLarge,
        Self::Chunk,
        Self::ChunkExtensionsTooLarge,
        Self::Trailer,
        Self::TrailersTooLarge,
        Self::Expectation,
    ];

    /// The status to answer before closing.
    pub const fn status(&self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::TransferEncoding | Self::Connect => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// The name under which this is counted.
    pub const fn reason(&self) -> &'static str {
        self.words().0
    }

    /// Counter name, then what was wrong and what to do.
    const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::RequestLine => {
                ("request_line", "malformed request line: send `METHOD /path HTTP/1.1`")
            }
            Self::Target => (
                "target",
                "unusable request target: send a path beginning with `/`, percent-encoded",
            ),
            Self::TargetTooLong => ("target_too_long", "request target too long: shorten it"),
            Self::Version => ("http_version", "unsupported HTTP version: use HTTP/1.1"),
            Self::Connect => ("connect", "CONNECT is not implemented: this is not a proxy"),
            Self::BareNewline => {
                ("bare_newline", "CR or LF on its own: end every line of the head with CRLF")
            }
            Self::FieldName => {
                ("field_name", "malformed header name: send a token directly followed by a colon")
            }
            Self::FieldValue => {
                ("field_value", "control character in a header value: remove or encode it")
            }
            Self::ObsoleteFold => {
                ("obsolete_fold", "header continued on the next line: put it on one line")
            }
            Self::HeadTooLarge => {
                ("head_too_large", "headers too large: send fewer or shorter ones")
            }
            Self::TooManyFields => ("too_many_fields", "too many headers: send fewer"),
            Self::HostMissing => ("host_missing", "HTTP/1.1 requires a Host header: send one"),
            Self::HostRepeated => ("host_repeated", "more than one Host header: send exactly one"),
            Self::HostInvalid => {
                ("host_invalid", "malformed Host header: send `name` or `name:port`")
            }
            Self::LengthInvalid => {
                ("length_invalid", "malformed Content-Length: send one decimal number")
            }
            Self::LengthRepeated => {
                ("length_repeated", "more than one Content-Length: send exactly one")
            }
            Self::LengthAndTransferEncoding => (
                "length_and_transfer_encoding",
                "Content-Length together with Transfer-Encoding: send one of them",
            ),
            Self::TransferEncoding => (
                "transfer_encoding",
                "unsupported Transfer-Encoding: only `chunked` is, sent once and alone",
            ),
            Self::TransferEncodingIn10 => (
                "transfer_encoding_in_1_0",
                "Transfer-Encoding in HTTP/1.0: send Content-Length or use HTTP/1.1",
            ),
            Self::BodyTooLarge => ("body_too_large", "body too large: send a smaller message"),
            Self::Chunk => ("chunk", "malformed chunked body: send hex size, CRLF, bytes, CRLF"),
            Self::ChunkExtensionsTooLarge => {
                ("chunk_extensions_too_large", "chunk extensions too large: send none")
            }
            Self::Trailer => ("trailer", "malformed trailer field: send none"),
            Self::TrailersTooLarge => ("trailers_too_large", "trailer fields too large: send none"),
            Self::Expectation => {
                ("expectation", "unknown Expect header: only `100-continue` is understood")
            }
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().1)
    }
}

impl std::error::Error for HttpError {}
