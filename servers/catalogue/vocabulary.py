"""The words that generated catalogues are made of. No logic; invented brands only."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Products of one category."""

    path: str
    nouns: tuple[str, ...]
    qualities: tuple[str, ...]
    materials: tuple[str, ...]
    features: tuple[str, ...]
    price_minor: tuple[int, int]
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What its variants differ in."""
    audiences: tuple[str, ...] = ()


BRANDS: Final = (
    "Nordvik", "Halden", "Brightfell", "Casa Lume", "Terravio", "Oakline", "Kestrel & Co", "Vantero", "Mirelle",
    "Stonebridge", "Aurelo", "Pinecrest", "Solstad", "Marlowe", "Ferndale", "Quillon", "Tidewater", "Zephra",
    "Umbra Nord", "Lindqvist",
)  # fmt: skip

SERIES: Final = (
    "Alder", "Arvo", "Basalt", "Birch", "Calder", "Cedar", "Cirrus", "Cobalt", "Delta", "Drift", "Ember", "Esker",
    "Fjord", "Flint", "Gale", "Granite", "Harbor", "Hazel", "Indigo", "Iris", "Juniper", "Karst", "Lagoon", "Lark",
    "Loam", "Maple", "Meadow", "Mistral", "Nimbus", "Onyx", "Orion", "Pebble", "Quartz", "Raven", "Ridge", "Rowan",
    "Sable", "Sierra", "Slate", "Summit", "Tundra", "Umber", "Vale", "Vega", "Willow", "Zenith",
)  # fmt: skip

COLOURS: Final = ("Black", "White", "Red", "Blue", "Green", "Grey", "Yellow", "Navy", "Olive", "Sand")
SIZES: Final = ("XS", "S", "M", "L", "XL")
SHOE_SIZES: Final = ("37", "38", "39", "40", "41", "42", "43", "44", "45")
GROWN: Final = ("Men's", "Women's", "Unisex")
ALL_AGES: Final = ("Men's", "Women's", "Kids'")

CLOTHES: Final = (("Colour", COLOURS), ("Size", SIZES))
SHOES: Final = (("Colour", COLOURS), ("Size", SHOE_SIZES))
COLOURED: Final = (("Colour", COLOURS),)

FAMILIES: Final = (
    Family(
        path="Footwear > Hiking Boots", nouns=("Hiking Boot", "Trekking Boot", "Mountain Boot", "Approach Shoe"),
        qualities=("Waterproof", "Insulated", "Lightweight", "Rugged", "High-Cut"),
        materials=("Leather", "Nubuck", "Recycled Mesh"),
        features=("grippy rubber outsole", "padded ankle collar", "breathable membrane", "reinforced toe cap"),
        price_minor=(7900, 28900), options=SHOES, audiences=ALL_AGES,
    ),
    Family(
        path="Footwear > Running Shoes", nouns=("Running Shoe", "Trail Running Shoe", "Racing Flat", "Training Shoe"),
        qualities=("Cushioned", "Lightweight", "Responsive", "Stable", "Breathable"),
        materials=("Knit", "Engineered Mesh"),
        features=("energy-returning foam", "reflective details", "8 mm drop", "seamless upper"),
        price_minor=(5900, 19900), options=SHOES, audiences=ALL_AGES,
    ),
    Family(
        path="Footwear > Sneakers", nouns=("Sneaker", "Court Shoe", "Slip-On", "High-Top"),
        qualities=("Classic", "Retro", "Everyday", "Minimal"), materials=("Canvas", "Suede", "Leather"),
        features=("vulcanised sole", "cork footbed", "metal eyelets"),
        price_minor=(3900, 14900), options=SHOES, audiences=GROWN,
    ),
    Family(
        path="Footwear > Sandals", nouns=("Sandal", "Trekking Sandal", "Slide", "Flip-Flop"),
        qualities=("Adjustable", "Quick-Drying", "Comfortable"), materials=("Cork", "Leather", "Recycled Webbing"),
        features=("anatomic footbed", "hook-and-loop straps", "water-friendly sole"),
        price_minor=(1490, 9900), options=SHOES, audiences=ALL_AGES,
    ),
    Family(
        path="Clothing > Jackets", nouns=("Rain Jacket", "Down Jacket", "Softshell Jacket", "Parka", "Windbreaker"),
        qualities=("Waterproof", "Packable", "Insulated", "Windproof"), materials=("Nylon", "Recycled Polyester"),
        features=("adjustable hood", "two-way zip", "taped seams", "inner pocket"),
        price_minor=(4900, 34900), options=CLOTHES, audiences=ALL_AGES,
    ),
    Family(
        path="Clothing > T-Shirts", nouns=("T-Shirt", "Polo Shirt", "Long-Sleeve Tee", "Tank Top"),
        qualities=("Soft", "Slim-Fit", "Relaxed", "Quick-Drying"), materials=("Organic Cotton", "Merino", "Linen"),
        features=("crew neck", "pre-washed", "flat seams", "tagless collar"),
        price_minor=(990, 6900), options=CLOTHES, audiences=ALL_AGES,
    ),
    Family(
        path="Clothing > Hoodies & Sweaters", nouns=("Hoodie", "Sweatshirt", "Cardigan", "Pullover"),
        qualities=("Cosy", "Oversized", "Brushed", "Heavyweight"), materials=("Cotton Fleece", "Lambswool", "Merino"),
        features=("kangaroo pocket", "ribbed cuffs", "drawstring hood"),
        price_minor=(2900, 12900), options=CLOTHES, audiences=ALL_AGES,
    ),
    Family(
        path="Clothing > Trousers", nouns=("Chino", "Jeans", "Hiking Trousers", "Jogger", "Shorts"),
        qualities=("Stretch", "Tapered", "Convertible", "Regular-Fit"), materials=("Denim", "Twill", "Softshell"),
        features=("five pockets", "elastic waist", "articulated knees"),
        price_minor=(2900, 15900), options=CLOTHES, audiences=ALL_AGES,
    ),
    Family(
        path="Clothing > Dresses", nouns=("Summer Dress", "Wrap Dress", "Maxi Dress", "Shirt Dress"),
        qualities=("Flowing", "Elegant", "Pleated", "Floral"), materials=("Viscose", "Linen", "Cotton"),
        features=("side pockets", "hidden zip", "adjustable straps"),
        price_minor=(3900, 16900), options=CLOTHES, audiences=("Women's", "Girls'"),
    ),
    Family(
        path="Clothing > Socks & Underwear", nouns=("Hiking Socks", "Ankle Socks", "Boxer Briefs", "Thermal Leggings"),
        qualities=("Cushioned", "Seamless", "Warm"), materials=("Merino", "Bamboo", "Cotton"),
        features=("reinforced heel", "pack of three", "soft waistband"),
        price_minor=(690, 4900), options=(("Size", SIZES),), audiences=ALL_AGES,
    ),
    Family(
        path="Accessories > Hats & Gloves", nouns=("Beanie", "Sun Hat", "Baseball Cap", "Winter Gloves"),
        qualities=("Warm", "Foldable", "Touchscreen"), materials=("Wool", "Fleece", "Cotton"),
        features=("fleece lining", "adjustable strap", "UPF 50+"), price_minor=(990, 5900), options=COLOURED,
    ),
    Family(
        path="Accessories > Backpacks", nouns=("Daypack", "Trekking Backpack", "Laptop Backpack", "Rolltop"),
        qualities=("Waterproof", "Ultralight", "Expandable"), materials=("Cordura", "Recycled Nylon", "Waxed Canvas"),
        features=("padded hip belt", "rain cover included", "15\" laptop sleeve", "hydration port"),
        price_minor=(3900, 24900), options=(("Volume", ("18 l", "25 l", "35 l", "55 l")), ("Colour", COLOURS)),
    ),
    Family(
        path="Accessories > Belts & Wallets", nouns=("Belt", "Card Holder", "Wallet", "Key Case"),
        qualities=("Slim", "Hand-Stitched", "RFID-Blocking"), materials=("Full-Grain Leather", "Vegan Leather"),
        features=("solid brass buckle", "six card slots", "gift box"), price_minor=(1490, 8900), options=COLOURED,
    ),
    Family(
        path="Accessories > Sunglasses", nouns=("Sunglasses", "Sports Sunglasses", "Aviators"),
        qualities=("Polarised", "Photochromic", "Retro"), materials=("Acetate", "Titanium"),
        features=("UV400 protection", "scratch-resistant lenses", "hard case"), price_minor=(2900, 18900),
        options=COLOURED,
    ),
    Family(
        path="Accessories > Watches", nouns=("Watch", "Diver's Watch", "Chronograph", "Field Watch"),
        qualities=("Automatic", "Solar-Powered", "Minimal"), materials=("Steel", "Titanium"),
        features=("sapphire crystal", "10 bar water resistance", "quick-release strap"), price_minor=(4900, 89900),
    ),
    Family(
        path="Camping > Tents", nouns=("Two-Person Tent", "Family Tent", "Trekking Tent", "Tarp"),
        qualities=("Ultralight", "Four-Season", "Freestanding"), materials=("Ripstop Nylon", "Polycotton"),
        features=("3,000 mm water column", "aluminium poles", "two vestibules", "packs to 45 x 15 cm"),
        price_minor=(6900, 79900), options=(("Colour", ("Green", "Sand", "Orange")),),
    ),
    Family(
        path="Camping > Sleeping Bags & Mats", nouns=("Sleeping Bag", "Sleeping Mat", "Camping Quilt"),
        qualities=("Insulated", "Self-Inflating", "Compact"), materials=("Down", "Synthetic Fill"),
        features=("comfort at -5 °C", "R-value 4.2", "stuff sack included"), price_minor=(3900, 39900),
        options=(("Length", ("Regular", "Long")),),
    ),
    Family(
        path="Camping > Stoves & Cookware", nouns=("Gas Stove", "Spirit Stove", "Camping Pot Set", "Spork"),
        qualities=("Folding", "Windproof", "Featherweight"), materials=("Titanium", "Anodised Aluminium"),
        features=("boils 1 l in 3.5 min", "piezo ignition", "nesting handles"), price_minor=(890, 17900),
    ),
    Family(
        path="Camping > Lamps", nouns=("Headlamp", "Camping Lantern", "Torch"),
        qualities=("Rechargeable", "Waterproof", "Dimmable"), materials=("Aluminium", "Polycarbonate"),
        features=("400 lumens", "red night light", "USB-C charging", "IPX7"), price_minor=(1490, 12900),
    ),
    Family(
        path="Kitchen > Pots, Pans & Bakeware", nouns=("Frying Pan", "Saucepan", "Casserole", "Baking Tray", "Wok"),
        qualities=("Non-Stick", "Oven-Safe", "Induction-Ready"), materials=("Cast Iron", "Stainless Steel", "Copper"),
        features=("stay-cool handle", "glass lid", "dishwasher safe"), price_minor=(1900, 24900),
        options=(("Diameter", ("20 cm", "24 cm", "28 cm")),),
    ),
    Family(
        path="Kitchen > Knives", nouns=("Chef's Knife", "Bread Knife", "Paring Knife", "Santoku"),
        qualities=("Forged", "Hand-Sharpened", "Balanced"), materials=("Damascus Steel", "Carbon Steel", "Ceramic"),
        features=("full tang", "walnut handle", "blade guard"), price_minor=(1490, 29900),
    ),
    Family(
        path="Kitchen > Mugs & Glasses", nouns=("Mug", "Travel Mug", "Wine Glass", "Tumbler"),
        qualities=("Hand-Glazed", "Insulated", "Stackable"), materials=("Stoneware", "Porcelain", "Borosilicate Glass"),
        features=("keeps warm for 6 h", "set of four", "microwave safe"), price_minor=(690, 5900), options=COLOURED,
    ),
    Family(
        path="Kitchen > Coffee & Tea", nouns=("Espresso Maker", "French Press", "Coffee Grinder", "Teapot", "Kettle"),
        qualities=("Manual", "Electric", "Gooseneck"), materials=("Stainless Steel", "Glass", "Cast Iron"),
        features=("12 grind settings", "temperature control", "1.2 l capacity"), price_minor=(1900, 29900),
    ),
    Family(
        path="Home > Cushions & Blankets", nouns=("Cushion", "Throw Blanket", "Duvet Cover", "Bath Towel"),
        qualities=("Soft", "Quilted", "Woven"), materials=("Wool", "Linen", "Organic Cotton"),
        features=("OEKO-TEX certified", "machine washable", "fringed edges"), price_minor=(1290, 14900),
        options=COLOURED,
    ),
    Family(
        path="Home > Candles & Scents", nouns=("Scented Candle", "Reed Diffuser", "Incense Set", "Pillar Candle"),
        qualities=("Hand-Poured", "Long-Burning", "Natural"), materials=("Soy Wax", "Beeswax"),
        features=("burns for 45 h", "notes of cedar & amber", "reusable jar"), price_minor=(790, 6900),
        options=(("Scent", ("Cedar", "Lavender", "Vanilla", "Citrus")),),
    ),
    Family(
        path="Home > Lighting", nouns=("Desk Lamp", "Floor Lamp", "Pendant Light", "String Lights"),
        qualities=("Dimmable", "Adjustable", "Smart"), materials=("Brass", "Oak", "Paper"),
        features=("warm white 2,700 K", "touch control", "bulb included"), price_minor=(1900, 34900),
    ),
    Family(
        path="Electronics > Audio", nouns=("Headphones", "Earbuds", "Bluetooth Speaker", "Soundbar", "Turntable"),
        qualities=("Noise-Cancelling", "Wireless", "Portable", "Hi-Fi"), materials=("Aluminium", "Walnut"),
        features=("30 h battery", "USB-C", "multipoint pairing", "IP67"), price_minor=(2900, 49900),
        options=(("Colour", ("Black", "White", "Blue")),),
    ),
    Family(
        path="Electronics > Computer Accessories",
        nouns=("Mechanical Keyboard", "Wireless Mouse", "USB-C Hub", "Webcam"),
        qualities=("Ergonomic", "Compact", "Silent"), materials=("Aluminium", "ABS"),
        features=("hot-swappable switches", "4K at 60 Hz", "three devices"), price_minor=(1900, 22900),
    ),
    Family(
        path="Electronics > Chargers & Cables", nouns=("Fast Charger", "Power Bank", "USB-C Cable", "Wireless Charger"),
        qualities=("65 W", "Foldable", "Braided", "Magnetic"), materials=("GaN", "Recycled Plastic"),
        features=("20,000 mAh", "2 m long", "overheat protection"), price_minor=(990, 11900),
    ),
    Family(
        path="Sports > Yoga & Fitness", nouns=("Yoga Mat", "Dumbbell Set", "Resistance Bands", "Foam Roller"),
        qualities=("Non-Slip", "Adjustable", "Extra-Thick"), materials=("Natural Rubber", "Cork", "Neoprene"),
        features=("6 mm thick", "carry strap", "exercise guide"), price_minor=(990, 19900), options=COLOURED,
    ),
    Family(
        path="Sports > Cycling", nouns=("Bike Helmet", "Cycling Jersey", "Bike Light Set", "Floor Pump", "Pannier"),
        qualities=("Aerodynamic", "Reflective", "Waterproof"), materials=("Polycarbonate", "Lycra", "Aluminium"),
        features=("MIPS protection", "USB rechargeable", "up to 11 bar"), price_minor=(1490, 21900),
        options=(("Size", ("S", "M", "L")),),
    ),
    Family(
        path="Sports > Water Bottles", nouns=("Water Bottle", "Insulated Bottle", "Soft Flask"),
        qualities=("Leakproof", "Insulated", "Collapsible"), materials=("Stainless Steel", "Tritan"),
        features=("cold for 24 h", "BPA-free", "wide mouth"), price_minor=(890, 5900),
        options=(("Volume", ("0.5 l", "0.75 l", "1 l")), ("Colour", COLOURS)),
    ),
    Family(
        path="Toys > Board Games & Puzzles", nouns=("Strategy Game", "Card Game", "Jigsaw Puzzle", "Dice Game"),
        qualities=("Cooperative", "Family", "Award-Winning"), materials=("Cardboard", "Wood"),
        features=("2-5 players", "ages 8+", "1,000 pieces", "45 minutes"), price_minor=(990, 6900),
    ),
    Family(
        path="Toys > Wooden Toys", nouns=("Building Blocks", "Train Set", "Marble Run", "Pull-Along Animal"),
        qualities=("Montessori", "Colourful", "Stackable"), materials=("Beech", "Maple", "Bamboo"),
        features=("child-safe paint", "ages 2+", "storage bag"), price_minor=(1290, 12900),
    ),
    Family(
        path="Garden > Tools", nouns=("Pruning Shears", "Garden Trowel", "Watering Can", "Hedge Trimmer"),
        qualities=("Ergonomic", "Rust-Proof", "Cordless"), materials=("Carbon Steel", "Ash Wood", "Galvanised Steel"),
        features=("self-cleaning blade", "lifetime guarantee", "soft grip"), price_minor=(990, 19900),
    ),
    Family(
        path="Beauty > Soaps & Creams", nouns=("Hand Soap", "Hand Cream", "Shampoo Bar", "Face Oil", "Shaving Brush"),
        qualities=("Natural", "Fragrance-Free", "Nourishing"), materials=("Shea Butter", "Olive Oil", "Oat"),
        features=("vegan", "plastic-free", "for sensitive skin", "100 ml"), price_minor=(490, 4900),
    ),
)  # fmt: skip
