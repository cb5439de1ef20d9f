package migrations_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/campaign-scheduler/scheduler/migrations"
)

// digests are those of the migrations that databases may have gone through. Such a
// file never changes again: what it should have said is a new migration's to say.
var digests = map[string]string{
	"000001_version.down.sql":         "7260290a41620dc25a0168b8d6d42440dba00faf5430c5bc1a430a519acf6501",
	"000001_version.up.sql":           "5ece1d114f0243b235395991a0b96fa79ad129d9640d8af556a26d504d6b9260",
	"000002_strategy.down.sql":        "197c3a856bf956f55f94266303d026031e39c8418109b67f802d3ecb1523ff51",
	"000002_strategy.up.sql":          "0b71513bf6b3912a56f8440a2ecafa24fe303cf233dcd3ca86d3dade118bd0ed",
	"000003_tables.down.sql":          "36c84fb15b5b6e77438b728b63f4e5e8a818a47a2b8703e6490d8a2c2c5ce86e",
	"000003_tables.up.sql":            "7c91cd7cfc77dd7c67995fdcb5b6072cff31779ef95fed52b43c0de50d9acd0f",
	"000004_triggers.down.sql":        "85bb4d4605aa6c2539585450cfe97699a7bc8cabbb00e68a51c2c2e97db0e3e4",
	"000004_triggers.up.sql":          "40318322cb1a3f1c78e37f29cd0047e81afbfe2837647798939c9dcfdb86eefd",
	"000005_views.down.sql":           "cc4e9d461a153451fdeb3aadae07c00ffc8bf1e25da8198118d419a6235ee1ab",
	"000005_views.up.sql":             "0cd48530a8fc345b29415478d2a87eb665d3a9271ee1f5f277bd524f159c108d",
	"000006_roles.down.sql":           "4e3ffa009022f1449755de2a687e158ed04e2027f7de1196feeca63a1052907d",
	"000006_roles.up.sql":             "577085520d53ad33f0d1cc436d62e6fb17a083f24e2306c926d9b0329212feed",
	"000007_restore_guard.down.sql":   "52488f3553229165e9e906ab9c4ec60246fe827585e7a63ec5231b1e5ddeaaaf",
	"000007_restore_guard.up.sql":     "8f33e4171a97508d655fb6ebee8f460142ad8dc8f10160ea674f8dd0fda66b33",
	"000008_rulings.down.sql":         "d97a921d81a7485d52337f0a1c3c79f11d70ce5d2142beabe78883a67553a07e",
	"000008_rulings.up.sql":           "67b84f9b46917f55308d02a33737298dffb853d59c2c1fdbe456bd299b3b7539",
	"000009_unix_ms.down.sql":         "08ae30a3f856b527e5707f65fb95cb1d8ab574ec75455512c20d705e67d88656",
	"000009_unix_ms.up.sql":           "3937259f2cabb737d9bb4e76bce209364cafcf697b129365a4fa685a6e61850f",
	"000010_operators.down.sql":       "93fff13b44337592a01a45196a44faa51d216294c49b47c0a1eaa9c42e3fa9dd",
	"000010_operators.up.sql":         "fd7fa33235f7922a8862a8c29301e20a80fd40e128a27fd4673c22df11c59b9e",
	"000011_roles.down.sql":           "6e27291deb7b6d1d81238cb79f0cb69a6a90a4e925891b9407d48ab5f4a29d07",
	"000011_roles.up.sql":             "fdefd13530307a1e4d6554f853efe28898e21b002cbb1781f42e3904c690785d",
	"000012_deliveries.down.sql":      "870b0e27fa710d02bc8a7f9f24335ed2ad10dd26e105f8acb99631f51455f7dc",
	"000012_deliveries.up.sql":        "132a14ca8f9341968253d1563acd2594b225217e2cf39980e1fed047b9437a02",
	"000013_decisions.down.sql":       "ed2f675807e8a6a2d4d877d90a556c8be8c188ab6b4ae40c6166e80e409215ff",
	"000013_decisions.up.sql":         "d3ace967361b9c241f4e18c77d61d1425a1a1f80744f5bd4bba26858df45c3c9",
	"000014_planning.down.sql":        "36ac2a210ab622a51613e94ffdc35f40766775a09d1bdb873fab3c3bf3cfc609",
	"000014_planning.up.sql":          "8005e9b7b730696297f79f594a91aed7084ca0bfcb6c4b54019807301ed91f02",
	"000015_loading.down.sql":         "153b83feb2ed749e3f2a97d0b0e29a26b0fd14983d9369a389017f1429835e13",
	"000015_loading.up.sql":           "99962d5fba34f31d5e0d4fb8d4809f8420465dbba2241ece42a41dfd4ea31fa9",
	"000016_recognition.down.sql":     "a735004091c28c2ed11e13b3af132d99e570dcb2d44669a71832b61df158ed19",
	"000016_recognition.up.sql":       "fcd9cd4f98eff83404aaa68d42e9d024ce2901aa411db00fb89b25a1b24e894b",
	"000017_targets.down.sql":         "b24f29f65109df667510d55887f1ad8d58034ea238093045c735bc2b8e398a4f",
	"000017_targets.up.sql":           "55012788ce6f20d6ee87fc8f56312465ed0e3f7fa7451b1ccad348dfc23dabde",
	"000018_api.down.sql":             "c983a2bc3807a00116213c111528bb7c2ea0e37d5cdc6f3fec41ccbd82640200",
	"000018_api.up.sql":               "8ef3dd615768591689b088ad243cc616096fb563acc38f564964628ad50fd99f",
	"000019_console.down.sql":         "a5fa36e8613c45449b361da101e0f773eef77948b82d7bf1ad5986236b03f512",
	"000019_console.up.sql":           "45a3c7bf9fdab90217af81504aac8fe7b4d5ae24ee80336ab30f1bda6ec31fcd",
	"000020_words.down.sql":           "8d28b75b9685ab41a98af3e1144830bacbe16d26e105dfa28e5fcd3583673407",
	"000020_words.up.sql":             "213ddac8f0117817654596ee6ac15e9827e05a53330bf948696f747b0cedefee",
	"000021_overdue.down.sql":         "c8d76446d79ede44fb5f024768f571edb69f2cc6cbd26b6ef14afb43d9fc2fc0",
	"000021_overdue.up.sql":           "6cff1f14a5f5a7027a50d5e95629edb9f5e6293530f653bc724f49a89baed7da",
	"000022_at_once.down.sql":         "3846f9f523b1ade6699e8f2f6fe9dd06113c9990e856cb50383443aab2c72e13",
	"000022_at_once.up.sql":           "e28a59ca27899eaed274a39ac8d2496a0b677022717b5148724e1b2b42b8ecf4",
	"000023_reads.down.sql":           "b7f57b297d6c40c13f41e27cd97d396e5308aea4caa345d29d6734d7e6b2d390",
	"000023_reads.up.sql":             "27f23b0b7c31e64d7e30aa041cab01a00952fc3efef41c70a9c0a3a7623100d4",
	"000024_audits.down.sql":          "c8085193f43a29df3e254f5d38935fbf460bfcedd84a702a35bc8c11b515b187",
	"000024_audits.up.sql":            "c256db6710810beb3ebadf73a2acb2bdc255b801baea3163d99a13eac5e84061",
	"000025_pages.down.sql":           "07dc24a4676fe45606d4bc82de797fe54114c04d0a890ce6a622ba3e7ec69a09",
	"000025_pages.up.sql":             "92d56e0d578a6652b5c97f7f8890076b533038c085aeb2cd9d52358f50b2c52f",
	"000026_times.down.sql":           "eec7bbb891c5a2e3dbd351b58ad19d83e7a1153ec41028023c8a40173243ff29",
	"000026_times.up.sql":             "097f2ed44404f232f7d278f29d62eed4521f90f5d8416c7ee3d89c05969da824",
	"000027_ready.down.sql":           "f7eb7584edd76b387b5b1bb5d42610cddb1fcbf729389f93f65788ea4a298368",
	"000027_ready.up.sql":             "482229ce3511d376bf9202964e4351ebe5f506f43648e3c2c545cf726fc4e3da",
	"000028_quiet.down.sql":           "def21cb6c66b3cd2e7064d7a5c682941433da5f5d4b142f60bc0835fe6af7776",
	"000028_quiet.up.sql":             "f4eda82b42d8687000b25870f765f547377881cf62510263c2309f17ee5ee0b5",
	"000029_pages2.down.sql":          "505f0af1c7b20c91aeea131feedf6e2bd5747b6d9a7a0a388e35fd26872b9bb8",
	"000029_pages2.up.sql":            "e8913af208466cad60e7a6f607df2d144418bdf91a7ad5f6b9c460d59e0596df",
	"000030_pace.down.sql":            "6cd31e6b87a28f2dcc6ca6447dab0dc553523d99e52ccd32f82dc5db3ce30df2",
	"000030_pace.up.sql":              "5fbc052168766e86346b185a93d2cd5b931b8e219e1669279f516057778ca83c",
	"000031_calendars.down.sql":       "6960605c0ec21a619412b01647908fc3411780bbd5aae697d73a510c256b947b",
	"000031_calendars.up.sql":         "1837883a0bd559c5b600c86b9855657df731fda2b7c3e3358702d8318c605e8b",
	"000032_kept_plans.down.sql":      "62086508d21e78af48b0372c8fb3c9d3b7b7d68c6f0e0930431bc1653597555b",
	"000032_kept_plans.up.sql":        "db117cb4a1e1203c9a2f2f439d03805d14ace1da0d2aa0ea745f48b9ddcbaaab",
	"000033_task_apps.down.sql":       "92a0aa2da2d3453feb687b1d1a81616c2571135425f605a81379f3dd2e148fb0",
	"000033_task_apps.up.sql":         "9811eecd4c26a4e1d74f28bd1d62326b74c7eeeef8fac2137e7896d24467acd3",
	"000034_summaries.down.sql":       "0918047690bf488f4ecb87a56cc7c77e2b0c5b58b54d69ac38186fa88dc4f69a",
	"000034_summaries.up.sql":         "c064f3b6d0b23811fda2be7233596bc6f14f43f99c8a92fc8b156f57a9d2588b",
	"000035_decided_by_time.down.sql": "0dc5273b3f6a2a8ef8ee160f6fdbddcc061c3d0905c7603cdcf13d31a086b3e8",
	"000035_decided_by_time.up.sql":   "2c9ca082c043fd972fef2ee93147de376a866e6309838ce1464d3da893fe3337",
}

func TestMigrationsAreFrozen(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, name := range files {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		got[name] = hex.EncodeToString(sum[:])
	}
	if diff := cmp.Diff(digests, got); diff != "" {
		t.Errorf("migrations that have changed, are gone or have no digest (-want +got):\n%s", diff)
	}
}
