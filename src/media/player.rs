//! Prompts and music for one leg.

use std::sync::Arc;

/// µ-law at 8 kHz, shared by every leg that hears it.
pub type Clip = Arc<[u8]>;
