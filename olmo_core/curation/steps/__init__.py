"""The stages of build-dolma as steps over artifacts: what each reads, how its work is split, what it writes."""
