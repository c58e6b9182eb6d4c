"""What every part of Bridle costs, beside what it cannot avoid and beside its peers; see benchmarks/README.md."""
