//! Pure decisions over the model: locality, failover, access, route, explain.
