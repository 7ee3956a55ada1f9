//! Sound: RTP, digits, G.711, playing, bridging, recording.
//!
//! Everything but `worker` is pure and takes the scheduled time as an argument. Knows nothing of SIP or of calls' decisions.
