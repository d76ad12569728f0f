"""The research crew, by language model or offline: it reads tables and proposes search spaces."""
