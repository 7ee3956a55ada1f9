//! SDP: parse, print, and offer/answer negotiation of codecs and digits (RFC 8866, RFC 3264).
//!
//! Pure. Knows nothing of dialogs or sockets.
