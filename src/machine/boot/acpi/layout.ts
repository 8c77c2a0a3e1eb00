/** Where the board's ACPI hardware stands, as its tables tell, and where those are. */

/** In the BIOS ROM's range, where systems look for it that are not told (ACPI specification 5.2.5.1). */
export const RSDP_ADDRESS = 0xf_1000;
/** The tables that it points to, and where those begin that they list. */
export const RSDT_ADDRESS = RSDP_ADDRESS + 0x40;
export const XSDT_ADDRESS = RSDP_ADDRESS + 0x80;
export const OTHER_TABLES = RSDP_ADDRESS + 0x100;
/** The end of the BIOS ROM's range, and so of the tables. */
export const TABLES_END = 0x10_0000;

/** First port of the power-management registers: PM1 events, PM1 control at +4, timer at +8. */
export const PM_PORT = 0x600;
export const PM_PORTS = 12;
/** The interrupt line of ACPI events. */
export const SCI_IRQ = 9;
/** PM1_CNT.SLP_TYP of soft-off. */
export const SLEEP_TYPE_S5 = 5;
