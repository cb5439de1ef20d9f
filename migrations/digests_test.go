package migrations_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"testing"

	"github.com/campaign-scheduler/scheduler/migrations"
)

// digests are those of the migrations that databases may have gone through. Such a
// file never changes again: what it should have said is a new migration's to say.
var digests = map[string]string{
	"000001_version.down.sql":       "7260290a41620dc25a0168b8d6d42440dba00faf5430c5bc1a430a519acf6501",
	"000001_version.up.sql":         "5ece1d114f0243b235395991a0b96fa79ad129d9640d8af556a26d504d6b9260",
	"000002_strategy.down.sql":      "197c3a856bf956f55f94266303d026031e39c8418109b67f802d3ecb1523ff51",
	"000002_strategy.up.sql":        "0b71513bf6b3912a56f8440a2ecafa24fe303cf233dcd3ca86d3dade118bd0ed",
	"000003_tables.down.sql":        "36c84fb15b5b6e77438b728b63f4e5e8a818a47a2b8703e6490d8a2c2c5ce86e",
	"000003_tables.up.sql":          "7c91cd7cfc77dd7c67995fdcb5b6072cff31779ef95fed52b43c0de50d9acd0f",
	"000004_triggers.down.sql":      "85bb4d4605aa6c2539585450cfe97699a7bc8cabbb00e68a51c2c2e97db0e3e4",
	"000004_triggers.up.sql":        "40318322cb1a3f1c78e37f29cd0047e81afbfe2837647798939c9dcfdb86eefd",
	"000005_views.down.sql":         "cc4e9d461a153451fdeb3aadae07c00ffc8bf1e25da8198118d419a6235ee1ab",
	"000005_views.up.sql":           "0cd48530a8fc345b29415478d2a87eb665d3a9271ee1f5f277bd524f159c108d",
	"000006_roles.down.sql":         "4e3ffa009022f1449755de2a687e158ed04e2027f7de1196feeca63a1052907d",
	"000006_roles.up.sql":           "577085520d53ad33f0d1cc436d62e6fb17a083f24e2306c926d9b0329212feed",
	"000007_restore_guard.down.sql": "52488f3553229165e9e906ab9c4ec60246fe827585e7a63ec5231b1e5ddeaaaf",
	"000007_restore_guard.up.sql":   "8f33e4171a97508d655fb6ebee8f460142ad8dc8f10160ea674f8dd0fda66b33",
	"000008_rulings.down.sql":       "d97a921d81a7485d52337f0a1c3c79f11d70ce5d2142beabe78883a67553a07e",
	"000008_rulings.up.sql":         "67b84f9b46917f55308d02a33737298dffb853d59c2c1fdbe456bd299b3b7539",
	"000009_unix_ms.down.sql":       "08ae30a3f856b527e5707f65fb95cb1d8ab574ec75455512c20d705e67d88656",
	"000009_unix_ms.up.sql":         "3937259f2cabb737d9bb4e76bce209364cafcf697b129365a4fa685a6e61850f",
	"000010_operators.down.sql":     "93fff13b44337592a01a45196a44faa51d216294c49b47c0a1eaa9c42e3fa9dd",
	"000010_operators.up.sql":       "fd7fa33235f7922a8862a8c29301e20a80fd40e128a27fd4673c22df11c59b9e",
}

func TestMigrationsAreFrozen(t *testing.T) {
	t.Parallel()
	for name, want := range digests {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Error(err)
			continue
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has changed: its digest is %x", name, sum)
		}
	}
}
