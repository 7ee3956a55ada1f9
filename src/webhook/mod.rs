//! Events out: signing, delivery, back-off, replay.
