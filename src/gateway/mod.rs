//! The shell around the calls: wires the rooms together and decides nothing.
