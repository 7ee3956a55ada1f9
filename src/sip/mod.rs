//! SIP: dialogs over the sans-IO stack, behind our own types.
//!
//! Dialogs are pure, `wire` does the IO. Nothing outside this room sees the stack's types. Never decides about a call.
