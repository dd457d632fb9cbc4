//! Requests as smugglers and careless clients send them, and what becomes of them.

use super::super::Kind::{self, *};

/// What becomes of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// So many whole requests.
    Accepted(usize),
    /// So many whole requests, then one that breaks a rule.
    Refused(usize, Kind),
}

pub(super) struct Specimen {
    pub(super) bytes: &'static str,
    pub(super) fate: Fate,
}

const fn accepted(requests: usize, bytes: &'static str) -> Specimen {
    Specimen { bytes, fate: Fate::Accepted(requests) }
}

const fn refused(kind: Kind, bytes: &'static str) -> Specimen {
    Specimen { bytes, fate: Fate::Refused(0, kind) }
}

const fn refused_after(requests: usize, kind: Kind, bytes: &'static str) -> Specimen {
    Specimen { bytes, fate: Fate::Refused(requests, kind) }
}

/// A body after a head that announces chunks.
macro_rules! chunked {
    ($body:literal) => {
        concat!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", $body)
    };
}

pub(super) const SPECIMENS: &[Specimen] = &[
    // What honest clients send.
    accepted(1, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    accepted(1, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    accepted(1, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    accepted(1, "GET /a/b?c=d&e=%20[x]{y}|z\\^ HTTP/1.1\r\nhost: a.b_c:8080\r\n\r\n"),
    accepted(1, "GET http://a.b:80/c?d HTTP/1.1\r\nHost: a.b:80\r\n\r\n"),
    accepted(1, "GET HTTPS://a HTTP/1.1\r\nHost: a\r\n\r\n"),
    accepted(1, "GET http://[::1]:80?x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
    accepted(1, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    accepted(1, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    accepted(1, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 0\r\n\r\n"),
    accepted(1, "M-SEARCH! /x HTTP/1.1\r\nHost:\r\n\r\n"),
    accepted(1, "GET / HTTP/1.1\r\nHost: a\r\nX: \t \r\nY:\r\nZ: a\tb \u{e9}\r\n\r\n"),
    accepted(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    accepted(1, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:  003 \r\n\r\nabc"),
    accepted(1, "POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\nabc"),
    accepted(1, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    accepted(
        1,
        "POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING:CHUNKED\r\n\r\n00a;x=\"y z\"\r\n0123456789\r\n0;q\r\n\r\n",
    ),
    accepted(
        1,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    ),
    accepted(1, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"),
    accepted(
        3,
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    accepted(
        2,
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    // Two lengths, CL.CL.
    refused(
        DuplicateContentLength,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    ),
    refused(
        DuplicateContentLength,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\nabcde",
    ),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 6\r\n\r\nabcde"),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde"),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"),
    refused(MalformedContentLength, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t5\r\n\r\nabcde"),
    refused(
        MalformedContentLength,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nabcde",
    ),
    // A length and an encoding, CL.TE and TE.CL.
    refused(
        TransferEncodingWithLength,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    ),
    refused(
        TransferEncodingWithLength,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ),
    // An encoding that one parser knows and another does not, TE.TE.
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
    ),
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    refused(MalformedTransferEncoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    ),
    refused(MalformedTransferEncoding, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    refused(
        DuplicateTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        DuplicateTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    refused(
        TransferEncodingInHttp10,
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(ControlByte, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    refused(SpaceBeforeColon, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    refused(
        MalformedTransferEncoding,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(BareLf, "POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // Lines.
    refused(BareLf, "GET / HTTP/1.1\nHost: a\n\n"),
    refused(BareLf, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    refused(BareLf, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    refused(BareLf, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(BareLf, "GET /\n"),
    refused(BareCr, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
    refused(BareCr, "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n"),
    refused(BareCr, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\r\n\r\n"),
    refused(BareCr, "GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n"),
    refused(BareCr, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(LeadingEmptyLines, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(ObsFold, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    refused(ObsFold, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    refused(ObsFold, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    // Field names and values.
    refused(SpaceBeforeColon, "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"),
    refused(EmptyFieldName, "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
    refused(MalformedFieldName, "GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n"),
    refused(MalformedFieldName, "GET / HTTP/1.1\r\nHost: a\r\nno-colon\r\n\r\n"),
    refused(MalformedFieldName, "GET / HTTP/1.1\r\nHost: a\r\n\u{e9}: z\r\n\r\n"),
    refused(ControlByte, "GET / HTTP/1.1\r\nHost: a\r\nX\0: z\r\n\r\n"),
    refused(ControlByte, "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
    refused(ControlByte, "GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n"),
    // The request line.
    refused(MalformedTarget, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET / http/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedVersion, "GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused(MalformedTarget, "GET /\r\n"),
    refused(MalformedMethod, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedMethod, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedMethod, "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(ControlByte, "\x16\x03\x01\x02\0\x01"),
    refused(ControlByte, "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "OPTIONS */ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused(MalformedTarget, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Host.
    refused(MissingHost, "GET / HTTP/1.1\r\n\r\n"),
    refused(MissingHost, "GET http://a/ HTTP/1.1\r\nX-Host: a\r\n\r\n"),
    refused(DuplicateHost, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    refused(DuplicateHost, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    refused(MalformedHost, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    refused(MalformedHost, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    refused(MalformedHost, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    refused(MalformedHost, "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
    // Bodies.
    refused(ContentInConnect, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    refused(
        ContentInConnect,
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(MalformedChunkSize, chunked!("\r\n\r\n")),
    refused(MalformedChunkSize, chunked!("x\r\n")),
    refused(MalformedChunkSize, chunked!("0x3\r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkSize, chunked!(" 3\r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkSize, chunked!("3 \r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkSize, chunked!("3 ;a\r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkSize, chunked!("-3\r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkSize, chunked!("00000000000000003\r\nabc\r\n0\r\n\r\n")),
    refused(ChunkSizeOverflow, chunked!("ffffffffffffffff\r\n")),
    refused(ChunkSizeOverflow, chunked!("8000000000000000;a\r\n")),
    refused(MalformedChunkExtension, chunked!("3;\r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkExtension, chunked!("3; a\r\nabc\r\n0\r\n\r\n")),
    refused(ControlByte, chunked!("3;a\0\r\nabc\r\n0\r\n\r\n")),
    refused(BareLf, chunked!("3\nabc\r\n0\r\n\r\n")),
    refused(BareLf, chunked!("3;a\nabc\r\n0\r\n\r\n")),
    refused(BareLf, chunked!("3;\nabc\r\n0\r\n\r\n")),
    refused(BareCr, chunked!("3\rabc\r\n0\r\n\r\n")),
    refused(BareCr, chunked!("3;a\rb\r\nabc\r\n0\r\n\r\n")),
    refused(MalformedChunkEnd, chunked!("3\r\nabcd\r\n0\r\n\r\n")),
    refused(MalformedChunkEnd, chunked!("3\r\nabc\n0\r\n\r\n")),
    refused(BareCr, chunked!("3\r\nabc\r0\r\n\r\n")),
    refused(BareLf, chunked!("0\r\n\n")),
    refused(BareCr, chunked!("0\r\n\rX")),
    refused(BareLf, chunked!("0\r\nA: b\n\r\n")),
    refused(ObsFold, chunked!("0\r\nA: b\r\n c\r\n\r\n")),
    refused(SpaceBeforeColon, chunked!("0\r\nA : b\r\n\r\n")),
    refused(ForbiddenTrailer, chunked!("0\r\nContent-Length: 5\r\n\r\n")),
    refused(ForbiddenTrailer, chunked!("0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    refused(ForbiddenTrailer, chunked!("0\r\nHost: b\r\n\r\n")),
    // What follows an honest request.
    refused_after(1, MalformedMethod, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc?"),
    refused_after(
        2,
        BareLf,
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\nHost: a\r\n\r\n",
    ),
    refused_after(
        1,
        LeadingEmptyLines,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
];
