//! Sans-IO data path: attempts, liveness, paths, placement, admission.
