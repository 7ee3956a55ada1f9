//! A simulated world for calls: network, callers, agents, chaos; virtual time.
