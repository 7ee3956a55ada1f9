//! The verbs: what an agent or a workflow can do on a call, one file per kind.
//!
//! Pure. Knows nothing of legs or sockets: it returns effects, the call carries them out.
