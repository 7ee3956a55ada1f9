//! Moving a caller to somebody else, as a transaction.
//!
//! Pure. Never knows about SIP syntax or sockets: it returns steps, the call carries them out.
