-- The catalogue: products, their variants, and what the search needs of them.
-- Every row belongs to a tenant; no query reads without one.

CREATE EXTENSION IF NOT EXISTS vector;

-- Vectors of two models cannot be compared, so a database holds those of one. The single row is
-- written by the first import; the index over `embedding` too, because it needs the dimensions.
CREATE TABLE catalogue_embedding (
    sole boolean PRIMARY KEY DEFAULT true CHECK (sole),
    model text NOT NULL,
    dimensions int NOT NULL CHECK (dimensions BETWEEN 8 AND 4000)
);

CREATE TABLE products (
    tenant text NOT NULL,
    id text NOT NULL,                   -- the shop's own: WooCommerce ID, Shopify handle
    sku text,
    title text NOT NULL,
    description text NOT NULL,          -- plain text
    vendor text,
    categories text[] NOT NULL,         -- paths: 'Clothing > Shoes'
    category_keys text[] NOT NULL,      -- lower case: every step and every prefix of each path
    tags text[] NOT NULL,
    attributes jsonb NOT NULL,          -- name -> list of values
    currency text,                      -- ISO 4217; NULL where nothing has a price
    price_minor bigint CHECK (price_minor >= 0),           -- of the cheapest variant; NULL: no price
    regular_price_minor bigint CHECK (regular_price_minor >= 0),  -- before a sale; NULL: no sale
    stock bigint,                       -- of all variants; NULL: not counted
    in_stock boolean NOT NULL,
    visible boolean NOT NULL,           -- published and meant to be found
    variant_count int NOT NULL,
    words tsvector NOT NULL,
    embedding halfvec NOT NULL,
    text_hash bytea NOT NULL,           -- of the text behind words and embedding
    row_hash bytea NOT NULL,            -- of everything imported, variants included
    imported_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);

-- No index but the primary keys begins with the tenant: before the first ANALYZE the planner would take any of
-- them for good enough, and read a whole tenant for one product.
CREATE INDEX products_words ON products USING gin (words);
CREATE INDEX products_categories ON products USING gin (category_keys);
CREATE INDEX products_sku ON products (sku, tenant);

CREATE TABLE variants (
    tenant text NOT NULL,
    product_id text NOT NULL,
    id text NOT NULL,
    sku text,
    title text NOT NULL,
    attributes jsonb NOT NULL,          -- name -> value
    currency text,
    price_minor bigint CHECK (price_minor >= 0),
    regular_price_minor bigint CHECK (regular_price_minor >= 0),
    stock bigint,
    in_stock boolean NOT NULL,
    position int NOT NULL,
    PRIMARY KEY (tenant, product_id, id),
    FOREIGN KEY (tenant, product_id) REFERENCES products (tenant, id) ON DELETE CASCADE
);

CREATE INDEX variants_sku ON variants (sku, tenant);
