//! The words that names, companies, job titles and deals are made of.
//!
//! Some names are not ASCII: a client that counts bytes as characters should notice.

/// Given names.
pub(super) const FIRST_NAMES: &[&str] = &[
    "Ada", "Alan", "Amira", "Anders", "Barbara", "Bruno", "Carla", "Chidi", "Chloé", "Clara", "Daniel", "Deepa",
    "Diego", "Edith", "Elif", "Emil", "Farid", "Fiona", "Frances", "George", "Grace", "Hana", "Hassan", "Hedy",
    "Ines", "Ivan", "Jamal", "Jane", "Joan", "José", "Karen", "Katherine", "Kenji", "Lars", "Leila", "Linus",
    "Lucía", "Maeve", "Margaret", "Marek", "Mei", "Nadia", "Niklaus", "Noah", "Olga", "Omar", "Paula", "Priya",
    "Radia", "Rosa", "Samuel", "Shreya", "Sofia", "Søren", "Tariq", "Tomás", "Uma", "Victor", "Wei", "Yara",
    "Yusuf", "Zoë",
];

/// Family names.
pub(super) const LAST_NAMES: &[&str] = &[
    "Abbott", "Adeyemi", "Almeida", "Andersson", "Baker", "Bauer", "Bianchi", "Brooks", "Carter", "Chen", "Clarke",
    "Dubois", "Easley", "Eriksen", "Ferrari", "Fischer", "Foster", "Garcia", "Goldberg", "Gupta", "Hamilton",
    "Hansen", "Hopper", "Hughes", "Ibrahim", "Ito", "Jackson", "Janssen", "Johnson", "Kaplan", "Keller", "Khan",
    "Kowalski", "Kumar", "Lamarr", "Laurent", "Lovelace", "Mbeki", "Meyer", "Moreau", "Morgan", "Müller",
    "Nakamura", "Nguyen", "Novak", "Núñez", "O'Brien", "Okafor", "Patel", "Perlman", "Quinn", "Reyes", "Ricci",
    "Romero", "Rossi", "Schmidt", "Silva", "Singh", "Sato", "Turner", "Usman", "Vogel", "Walker", "Weber", "Wilson",
    "Yamada", "Young", "Zimmermann",
];

/// First words of company names.
pub(super) const COMPANY_NAMES: &[&str] = &[
    "Acorn", "Alder", "Atlas", "Beacon", "Birchwood", "Bluebird", "Cascade", "Cedar", "Clearwater", "Compass", "Copper",
    "Delta", "Eastgate", "Ember", "Evergreen", "Falcon", "Foxglove", "Granite", "Harbour", "Hawthorn", "Horizon",
    "Juniper", "Keystone", "Lakeside", "Larch", "Lighthouse", "Maple", "Meridian", "Northwind", "Oakfield", "Orchard",
    "Pinnacle", "Quarry", "Redwood", "Riverside", "Saffron", "Silverline", "Summit", "Tidewater", "Willow",
];

/// Last words of company names.
pub(super) const COMPANY_TRADES: &[&str] = &[
    "Analytics", "Architects", "Bakery", "Consulting", "Dental", "Energy", "Foods", "Freight", "Health", "Insurance",
    "Interiors", "Legal", "Logistics", "Media", "Motors", "Optics", "Partners", "Printing", "Robotics", "Software",
];

/// Job titles.
pub(super) const JOB_TITLES: &[&str] = &[
    "Account Manager", "Buyer", "Chief Executive", "Controller", "Designer", "Engineer", "Facilities Manager",
    "Head of Operations", "Head of Sales", "Legal Counsel", "Marketing Manager", "Office Manager", "Product Manager",
    "Purchasing Lead", "Receptionist", "Site Manager", "Support Lead", "Technician",
];

/// What deals are about.
pub(super) const DEAL_SUBJECTS: &[&str] = &[
    "Annual licence", "Consulting days", "Extra seats", "Hardware refresh", "Maintenance", "Migration", "Onboarding",
    "Pilot project", "Renewal", "Support contract", "Training", "Upgrade",
];
