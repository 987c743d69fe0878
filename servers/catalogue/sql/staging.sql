-- Temporary tables that a whole file is copied into before anything of the catalogue is touched.

CREATE TEMPORARY TABLE staged_products (
    line bigint NOT NULL,
    id text NOT NULL,
    sku text,
    title text NOT NULL,
    description text NOT NULL,
    vendor text,
    categories text[] NOT NULL,
    category_keys text[] NOT NULL,
    tags text[] NOT NULL,
    attributes jsonb NOT NULL,
    currency text NOT NULL,
    price_minor bigint,
    regular_price_minor bigint,
    stock bigint,
    in_stock boolean NOT NULL,
    visible boolean NOT NULL,
    search_text text NOT NULL,
    text_hash bytea NOT NULL
);

CREATE TEMPORARY TABLE staged_variants (
    line bigint NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    id text NOT NULL,
    parent_id text,
    parent_sku text,
    sku text,
    title text NOT NULL,
    attributes jsonb NOT NULL,
    currency text NOT NULL,
    price_minor bigint,
    regular_price_minor bigint,
    stock bigint,
    in_stock boolean NOT NULL
);

-- One batch of the merge: products with what their variants say, and their place in the catalogue.
CREATE TEMPORARY TABLE batch (
    LIKE staged_products,
    variant_count int NOT NULL,
    variant_skus text NOT NULL,
    row_hash bytea NOT NULL,
    needs_embedding boolean NOT NULL
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE batch_embeddings (id text PRIMARY KEY, embedding text NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE batch_written (id text PRIMARY KEY, created boolean NOT NULL) ON COMMIT DELETE ROWS;
