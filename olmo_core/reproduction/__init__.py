"""Rebuilding an artifact elsewhere from what its manifests say, and comparing what came out, stage by stage."""
