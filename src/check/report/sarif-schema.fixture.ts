/** The JSON schema of SARIF 2.1.0 (`fixtures/sarif`), ready to validate logs. */
import { readFileSync } from 'node:fs';
import { Ajv, type ValidateFunction } from 'ajv';

/** RFC 3986, as far as a file's name or an address on the web goes; RFC 3339. */
const formats = {
  uri: /^[a-z][a-z\d+.-]*:[\w.~:/?#[\]@!$&'()*+,;=%-]+$/i,
  'uri-reference': /^(?!.*%(?![\da-f]{2}))[\w.~:/?#[\]@!$&'()*+,;=%-]*$/i,
  'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
};

/** Compiles the schema. */
export function sarifValidator(): ValidateFunction {
  const file = new URL('../../../fixtures/sarif/sarif-2.1.0-rtm.5.schema.json', import.meta.url);
  // Its draft of JSON schema is older than the validator and names itself otherwise; patterns have lone brackets.
  const { $schema: _draft, id: _id, ...schema } = JSON.parse(readFileSync(file, 'utf8'));
  return new Ajv({ allErrors: true, formats, unicodeRegExp: false }).compile(schema);
}
